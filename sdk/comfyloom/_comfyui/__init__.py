"""One ComfyUI server: requests, events, submitting, watching, files."""
