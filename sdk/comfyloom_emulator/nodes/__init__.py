"""The node types that the emulated ComfyUI really runs, and placeholders for all others."""
