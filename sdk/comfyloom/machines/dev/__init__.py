"""The dev server: a machine that is started once and used by many sessions.

A session needs only `borrow`; who starts or watches it imports `server`.
"""
