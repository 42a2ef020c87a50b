"""/mcp: reports for assistants, by the Model Context Protocol (MCP). docs/assistants.md explains it to users."""
