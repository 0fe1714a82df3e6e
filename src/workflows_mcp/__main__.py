"""`python -m workflows_mcp` is the `workflows-mcp` command."""

from workflows_mcp.cli import main

if __name__ == "__main__":
    main()
