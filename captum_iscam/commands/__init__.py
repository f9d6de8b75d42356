"""The subcommands of `captum-iscam`, one module each."""
