"""The data plane: one ComfyUI server."""
