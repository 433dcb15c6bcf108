"""The routes of the admin API, a file for each subject. Each has exactly one of `access.viewer` and `access.admin`."""
