"""What is kept on disk: one module per store, and the only ones that know SQL. No store decides anything."""
