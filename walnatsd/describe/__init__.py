"""Documents from declarations: AsyncAPI, D2, Mermaid."""
