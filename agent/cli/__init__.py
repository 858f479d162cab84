"""The command line `ecgw`: one file per noun, each a table of verbs; all of them speak to the admin socket."""
