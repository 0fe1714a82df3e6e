"""The MCP server: agents find workflows, run them, answer what they ask, and come back to them later."""
