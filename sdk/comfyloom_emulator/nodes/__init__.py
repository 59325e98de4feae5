"""The nodes that the emulated ComfyUI really runs, and stand-ins for all others."""
