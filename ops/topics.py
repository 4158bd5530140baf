import typer

app = typer.Typer()


@app.callback()
def group() -> None:
    """."""
