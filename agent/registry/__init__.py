"""Registries and the store of what comes from them: blobs by digest, resumable, verified."""
