"""One module per page: `NAV` says where it stands in the menu, `api` answers it. Found by name; knows no other page."""
