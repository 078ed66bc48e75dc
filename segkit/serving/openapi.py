"""The description of the server in OpenAPI 3.1, from which `/docs` is drawn."""

from __future__ import annotations

from typing import Any

from segkit import __version__
from segkit.model_metadata import INPUT, MASK, PROBABILITY
from segkit.serving.negotiate import ANSWERS, EVENTS, MEASURES, OVERLAY
from segkit.serving.tensors import HEADER
from segkit.serving.upload import SEQUENCES

_ERRORS = {
    "400": "The file or the request is damaged.",
    "401": "A token is needed.",
    "403": "An administrator's token is needed.",
    "404": "There is no such model or version.",
    "406": "Accept names nothing that can be given.",
    "408": "The body comes too slowly.",
    "413": "The body or the scan is larger than allowed.",
    "415": "The file is no scan that can be read.",
    "422": "The scan does not fit the model.",
    "503": "No room at the moment, the deadline passed, or the model is not loaded; see Retry-After.",
}
_BINARY = {"type": "string", "format": "binary"}
_TAGS = {
    "Scans": "Whole files in, masks out.",
    "Open Inference Protocol": "KServe v2, as tritonclient speaks it.",
    "Operation": "For those who run the server.",
}


def description() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "segkit",
            "version": __version__,
            "description": "Segmentation of MRI scans. Research software, not a medical device.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{}, {"token": []}],
        "paths": {
            "/segment": {"post": _segment()},
            "/models": {"get": _get("Scans", "models", "The models, with their classes and channels")},
            **_protocol(),
            "/metrics": {"get": _get("Operation", "metrics", "Figures for Prometheus", media="text/plain")},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string", "description": "One sentence."}},
                }
            },
        },
    }


def _segment() -> dict[str, Any]:
    form = {
        "type": "object",
        "description": "A whole scan, or one file (of DICOM also a zip) for each sequence; FLAIR stands in for one.",
        "properties": dict.fromkeys(("scan", *SEQUENCES), _BINARY),
    }
    answers = {
        media: {"schema": {"type": "object"} if answer == MEASURES else _BINARY if answer != EVENTS else _text()}
        for media, (answer, _) in ANSWERS.items()
    }
    return {
        "tags": ["Scans"],
        "operationId": "segment",
        "summary": "Segment a scan",
        "description": "The body is the file itself, or a form. Accept chooses the answer: "
        f"application/json the {MEASURES}, image/png the {OVERLAY}, text/event-stream progress and then the result, "
        "anything else the mask as a file of the scan's own format.",
        "parameters": [
            _query("model", "Name of the model; the first one without it."),
            _query("version", "Version of the model; the highest one without it."),
            _query("answer", "Wins over Accept.", enum=[MASK, MEASURES, OVERLAY, EVENTS]),
            _query("largest_component", "Keep the largest connected part of each class.", kind="boolean"),
            _query("by_slice", "Each slice for itself, without the model's rule for volumes.", kind="boolean"),
            *[
                _query(role, f"DICOM: the series, by number or UID, for the channel {role}; without it, it is found.")
                for role in SEQUENCES
            ],
            _query("pixels", "Send the scan's pixels too, among the events.", kind="boolean"),
        ],
        "requestBody": {
            "required": True,
            "description": "TIFF, PNG, NIfTI (.nii, .nii.gz), DICOM, or a zip of slices or of a DICOM study.",
            "content": {
                "application/octet-stream": {"schema": _BINARY},
                "multipart/form-data": {"schema": form},
            },
        },
        "responses": {
            "200": {"description": "The answer.", "content": answers},
            **_errors("400", "401", "404", "406", "408", "413", "415", "422", "503"),
        },
    }


def _protocol() -> dict[str, Any]:
    tag = "Open Inference Protocol"
    paths: dict[str, Any] = {
        "/v2": {"get": _get(tag, "server", "Name, version and extensions of the server")},
        "/v2/health/live": {"get": _get(tag, "live", "Whether the server answers")},
        "/v2/health/ready": {"get": _get(tag, "ready", "Whether all models are loaded", errors=("503",))},
    }
    for prefix, suffix in (("/v2/models/{name}", ""), ("/v2/models/{name}/versions/{version}", "Version")):
        named = [_path(word) for word in ("name", "version") if f"{{{word}}}" in prefix]
        for path, operation, summary in (
            ("", "model", "The tensors of a model"),
            ("/ready", "modelReady", "Whether a model is loaded"),
            ("/config", "modelConfig", "The configuration that Triton would have for it"),
        ):
            one = _get(tag, operation + suffix, summary, errors=("401", "404", "503"))
            paths[prefix + path] = {"parameters": named, "get": one}
        paths[prefix + "/infer"] = {"parameters": named, "post": _infer(tag, "infer" + suffix)}
    paths["/v2/repository/index"] = {"post": _get(tag, "index", "All models and their states")}
    for verb, summary in (("load", "Load a model again from its file"), ("unload", "Serve a model no more")):
        post = _get(tag, verb, summary, errors=("400", "401", "403", "404"))
        paths[f"/v2/repository/models/{{name}}/{verb}"] = {"parameters": [_path("name")], "post": post}
    return paths


def _infer(tag: str, operation: str) -> dict[str, Any]:
    return {
        "tags": [tag],
        "operationId": operation,
        "summary": "Run a model on a tensor",
        "description": f"One input, {INPUT}: UINT8 [N, H, W, C]. Outputs {MASK}: UINT8 [N, H, W], and "
        f"{PROBABILITY}: FP32 [N, K, H, W]. With binary data, {HEADER} is the length of the JSON part.",
        "parameters": [
            {"name": HEADER, "in": "header", "schema": {"type": "integer"}, "description": "Length of the JSON part."}
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "application/octet-stream": {"schema": _BINARY},
            },
        },
        "responses": {
            "200": {
                "description": "The outputs.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "application/octet-stream": {"schema": _BINARY},
                },
            },
            **_errors("400", "401", "404", "408", "413", "503"),
        },
    }


def _get(
    tag: str, operation: str, summary: str, *, media: str = "application/json", errors: tuple[str, ...] = ("401",)
) -> dict[str, Any]:
    schema = _text() if media.startswith("text/") else {}
    return {
        "tags": [tag],
        "operationId": operation,
        "summary": summary,
        "responses": {"200": {"description": "OK", "content": {media: {"schema": schema}}}, **_errors(*errors)},
    }


def _errors(*codes: str) -> dict[str, Any]:
    schema = {"schema": {"$ref": "#/components/schemas/Error"}}
    return {code: {"description": _ERRORS[code], "content": {"application/json": schema}} for code in codes}


def _query(name: str, text: str, *, kind: str = "string", enum: list[str] | None = None) -> dict[str, Any]:
    schema = {"type": kind, **({"enum": enum} if enum else {})}
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _text() -> dict[str, Any]:
    return {"type": "string"}
