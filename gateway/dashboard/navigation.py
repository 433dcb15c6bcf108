"""The menu: what each page says of itself, put in order. Renders nothing."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.keyring import Principal, Role

GROUPS = ("Watch", "Understand", "Improve", "Manage")


@dataclass(frozen=True, slots=True)
class Nav:
    """A page's place in the menu.

    Attributes:
        title: what the menu and the page's heading say.
        path: below `/admin/`, without a slash; "" is the first page.
        group: one of `GROUPS`.
        order: place in the group, the smallest first.
        role: who sees it.
    """

    title: str
    path: str
    group: str
    order: int
    role: Role = Role.VIEWER

    def is_for(self, principal: Principal) -> bool:
        """Tell whether somebody may see the page."""
        return self.role is Role.VIEWER or principal.role is Role.ADMIN


def grouped(pages: list[Nav], principal: Principal) -> list[tuple[str, list[Nav]]]:
    """Return the menu that somebody sees: groups in order, none empty."""
    found = []
    for group in GROUPS:
        mine = sorted((page for page in pages if page.group == group), key=lambda page: page.order)
        shown = [page for page in mine if page.is_for(principal)]
        if shown:
            found.append((group, shown))
    return found
