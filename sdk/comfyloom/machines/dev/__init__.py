"""The dev server: a machine that is started once and used by many sessions.

A session needs only `borrow`; starting and watching it (`server`, `watch`) are imported by who does.
"""
