"""`segkit serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from segkit.cli.options import with_flags
from segkit.config import Checked
from segkit.errors import SegkitError
from segkit.serving.config import BatchConfig, Limits, ServerConfig

_PACKAGES = ("starlette", "uvicorn", "httptools", "prometheus_client", "python_multipart")  # the extra "serve"


@with_flags(ServerConfig, BatchConfig, Limits)
def serve(
    model: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it
        typer.Option(
            "--model",
            help="NAME=MODEL or MODEL: an .onnx file, a run directory, an installed model or a run's name; "
            "repeatable. Without it, the package's own.",
        ),
    ] = None,
    repository: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--repository", help="A Triton model repository: NAME/VERSION/model.onnx; repeatable."),
    ] = None,
    *,
    flags: dict[str, Any],
) -> None:
    """Serve models over HTTP: POST /segment, the Open Inference Protocol at /v2, a page at /."""
    from segkit.config import from_mapping
    from segkit.inference.find import find_model
    from segkit.inference.session import MANY_SLICES, expected_device

    server = from_mapping(ServerConfig, _of(ServerConfig, flags), "serve")
    batch = from_mapping(BatchConfig, _of(BatchConfig, flags), "serve")
    limits = from_mapping(Limits, _of(Limits, flags), "serve")
    if not model and not repository:
        model = [str(find_model(None, device=expected_device(batch.device, MANY_SLICES)))]
    try:
        from segkit.serving.server import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise SegkitError(f"serve needs the package {error.name}; pip install 'segkit[serve]'") from error
    run(model or [], repository or [], server, batch, limits)


def _of(kind: type[Checked], flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that are fields of one component."""
    return {key: value for key, value in flags.items() if key in kind.__dataclass_fields__}
