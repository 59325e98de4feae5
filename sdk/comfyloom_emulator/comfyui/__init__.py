"""An emulated ComfyUI server: queue, executor, cache, websockets and files."""
