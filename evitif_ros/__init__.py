"""What the nodes of both sides share: parameter tables, the lifecycle, diagnostics, and filling messages."""
