"""The admin dashboard: HTML pages over what the admin API knows. Serves no data of its own and decides nothing."""
