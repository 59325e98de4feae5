"""One emulated ComfyUI server: queue, executor, cache, sockets and files."""
