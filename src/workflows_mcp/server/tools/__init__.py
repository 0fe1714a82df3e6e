"""The tools, in modules by what they are about. Each module's `TOOLS` are what the server offers."""
