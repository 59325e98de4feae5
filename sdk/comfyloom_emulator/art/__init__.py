"""Pictures and meshes made with arrays alone: what the emulated models come up with."""
