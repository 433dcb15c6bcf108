"""What tests of the admin API share; the fixtures themselves are a plugin, since pages are tested with them too."""

from tests.fixtures_admin import ADMIN, API, CALLER, VIEWER, Admin, StartAdmin, bearer, code_of

__all__ = ["ADMIN", "API", "CALLER", "VIEWER", "Admin", "StartAdmin", "bearer", "code_of"]
