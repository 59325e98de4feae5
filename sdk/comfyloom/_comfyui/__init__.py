"""One ComfyUI server: requests, events, submission, watching, files."""
