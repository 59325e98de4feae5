"""One HTTP server: transport, retries, rate limit."""
