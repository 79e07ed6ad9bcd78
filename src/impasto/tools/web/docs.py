"""Make the HTTP interface's documentation page from its OpenAPI description, without scripts or external files."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #2b2622;
  background: #fbf8f2 }
h1, h2 { font-family: "Iowan Old Style", Palatino, Georgia, serif; font-weight: 500 }
code { font-size: .92em; background: #efe9dd; border-radius: 4px; padding: .1em .3em }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
td { border-top: 1px solid #e2d9c8; padding: .3rem .6rem .3rem 0; vertical-align: top }
details { margin: .5rem 0 } a { color: #a8401a }
"""


def docs_page(openapi: Mapping[str, Any]) -> str:
    """Return the HTML page of an OpenAPI description."""
    info = openapi["info"]
    parts = [f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{marked(info['description'])}</p>"]
    parts.append('<p>Machine-readable: <a href="openapi.json">openapi.json</a>. <a href="./">The studio</a>.</p>')
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{marked(operation.get('description', ''))}</p>")
            rows = "".join(fields(openapi, operation))
            parts.append(f"<details><summary>Parameters</summary><table>{rows}</table></details>" if rows else "")
            answers = "".join(
                f"<tr><td><code>{code}</code></td><td>{marked(a.get('description', ''))}</td></tr>"
                for code, a in operation["responses"].items()
            )
            parts.append(f"<details><summary>Responses</summary><table>{answers}</table></details>")
    title = escape(info["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}: HTTP interface</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def fields(openapi: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table row for each parameter and each form field."""
    for parameter in operation.get("parameters", ()):
        yield row(parameter["name"], parameter["schema"], parameter.get("description", ""), parameter.get("required"))
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        if "$ref" in schema:
            schema = openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        for name, field in schema.get("properties", {}).items():
            yield row(name, field, field.get("description", ""), name in schema.get("required", ()))


def row(name: str, schema: Mapping[str, Any], text: str, required: bool | None) -> str:
    """Return the table row of a parameter or form field."""
    kind = " or ".join(kinds(schema))
    default = "required" if required else str(schema.get("default", ""))
    return (
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{escape(default)}</td>"
        f"<td>{marked(text)}</td></tr>"
    )


def kinds(schema: Mapping[str, Any]) -> list[str]:
    """Return the possible types or values of a schema as text."""
    if "anyOf" in schema:
        return [k for s in schema["anyOf"] for k in kinds(s) if k != "null"]
    if "enum" in schema:
        return [str(v) for v in schema["enum"]]
    if "const" in schema:
        return [str(schema["const"])]
    if schema.get("type") == "array":
        return [f"{k}, any number" for k in kinds(schema.get("items", {}))]
    limits = [f"{schema[k]:g}" if k in schema else "" for k in ("minimum", "maximum")]
    span = f", {limits[0]} to {limits[1]}" if all(limits) else ""
    file = schema.get("format") == "binary" or "contentMediaType" in schema
    return [("file" if file else str(schema.get("type", "text"))) + span]


def marked(text: str) -> str:
    """Return text as HTML, with `code` in backticks marked up."""
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))
