"""The web server in a thread, and the HTTP code that both emulated APIs share."""
