"""A gateway to be broken: a real agent on a real engine, and what must hold after every fault."""
