"""The web server in a thread, and what both emulated APIs share of HTTP."""
