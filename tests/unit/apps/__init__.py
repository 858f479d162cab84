"""The sample APPs and what they are put together with."""
