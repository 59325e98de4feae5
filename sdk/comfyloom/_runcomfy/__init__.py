"""RunComfy's Server API."""
