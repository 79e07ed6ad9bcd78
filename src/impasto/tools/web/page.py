"""The page: the photograph and its painting on one side, styles and options on the other."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Base, Soft, colors

from ...options import StylizeOptions
from ...style.target import builtin_names
from ...video.extra import missing
from .controls import controls
from .engine import Engine
from .session import MOST_STYLES, QUALITIES, REGIONS, Session, style_choices, title_of
from .widgets import WORDS, widget

STATIC = Path(__file__).parent / "static"
IN_VIEW = ("strength", "style_scale", "keep_colours", "size")
"""Options that are always visible, in addition to the quality."""
LABELS = {"style_scale": "Stroke size", "size": "Size (px, long side)"}
"""Clearer labels for some of the visible options."""
TIMED = ("size", "scale", "iterations", "time", "preset", "method")
"""Options whose changes update the time estimates."""
GROUPS = {"look": "More of the look", "size": "More of the size", "optimiser": "Optimiser", "network": "Network"}
STYLE_FILES = [".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".avif", ".gif", ".bmp", ".heic", ".heif",
               ".safetensors"]  # fmt: skip


def gallery_css(prefix: str) -> str:
    """Return the CSS that puts a thumbnail on each style's and sample's label. `prefix` precedes our paths."""
    rows = [
        f'#styles label:nth-of-type({i}) {{ --thumbnail: url("{prefix}/studio/thumbnails/{name}.jpg") }}'
        for i, name in enumerate(builtin_names(), 1)
    ]
    rows += [f'#sample-{p.stem} {{ background-image: url("{prefix}/studio/samples/{p.name}") }}' for p in samples()]
    return "\n".join(rows)


def samples() -> list[Path]:
    """Return the paths of the sample photographs."""
    return sorted((STATIC / "samples").glob("*.jpg"))


def head(prefix: str = "") -> str:
    """Return the HTML of the page's head, which loads only from this server. `prefix` precedes our paths."""
    at = f"{prefix}/studio"
    scripts = "".join(f'<script src="{at}/{name}.js"></script>' for name in SCRIPTS)
    return f"""<link rel="stylesheet" href="{at}/studio.css"><link rel="stylesheet" href="{at}/moving.css">
<style>{gallery_css(prefix)}</style>{scripts}"""


STAGE = (STATIC / "stage.html").read_text(encoding="utf-8")
BRUSH = (STATIC / "brush.html").read_text(encoding="utf-8")
FILM = (STATIC / "film.html").read_text(encoding="utf-8")
LIVE = (STATIC / "live.html").read_text(encoding="utf-8")
TITLE = (STATIC / "title.html").read_text(encoding="utf-8")
SCRIPTS = ("zoom", "studio", "moving")
"""The page's scripts. They are loaded in any order; the last loads those that need it."""


def theme() -> Base:
    """Return the theme: colours of paper and ink, and system fonts, so that no font is downloaded."""
    return Soft(
        primary_hue=colors.orange,
        neutral_hue=colors.stone,
        font=["system-ui", "Segoe UI", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_text_color_subdued="#6f665e",
        body_text_color_subdued_dark="#b0a79e",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        input_placeholder_color="#857b72",
        input_placeholder_color_dark="#a39a91",
        input_border_color="*neutral_300",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        block_label_border_width="0",
        block_label_border_width_dark="0",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_title_text_weight="600",
        color_accent="#b8471f",
        checkbox_label_background_fill_selected="#b8471f",
        checkbox_label_background_fill_selected_dark="#b8471f",
        checkbox_background_color_selected="#b8471f",
        checkbox_background_color_selected_dark="#b8471f",
        slider_color="#b8471f",
        slider_color_dark="#b8471f",
    )


def uploaded(picture: Any) -> str | None:
    """Return the path of an uploaded file, so that our own reader decodes it instead of Gradio's."""
    return None if picture is None else picture.path


def make_page(engine: Engine) -> gr.Blocks:
    """Make the page for an engine."""
    session = Session(engine)
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    # Only paintings go through Gradio's queue. Its script can miss an answer if events follow each other closely: it
    # closes the stream of answers after one, while the next is on its way. Then that event stays pending for ever.
    quick = {**private, "queue": False}
    with gr.Blocks(title="Impasto", analytics_enabled=False, fill_width=True, delete_cache=(600, 7200)) as page:
        gr.HTML(TITLE, elem_id="title")
        masks = gr.Textbox(visible="hidden", elem_id="masks")
        current = gr.Textbox(visible="hidden", elem_id="current")
        preview = gr.Textbox(visible="hidden", elem_id="preview")
        ids = gr.State([])
        with gr.Row(elem_id="studio"):
            with gr.Column(scale=3, elem_id="easel", min_width=300):
                photo = gr.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "webcam", "clipboard"],
                    label="Photograph",
                    show_label=False,
                    elem_id="photo",
                    buttons=[],
                    placeholder="Drop a photograph here\nor click to choose one",
                )
                photo.preprocess = uploaded  # pyright: ignore[reportAttributeAccessIssue]
                with gr.Row(elem_id="samples"):
                    tries = [
                        gr.Button(f"Try the {p.stem}", elem_id=f"sample-{p.stem}", min_width=60) for p in samples()
                    ]
                with gr.Row(elem_id="actions"):
                    paint = gr.Button("Paint", variant="primary", elem_id="paint", size="lg")
                    cancel = gr.Button("Stop here", elem_id="cancel", size="lg")
                gr.HTML(STAGE, elem_id="stage")
                command = gr.Textbox(
                    label="As a command", buttons=["copy"], interactive=False, elem_id="command", lines=2, max_lines=6
                )
                history = gr.Radio(
                    [], label="Painted in this session", info="Choose a painting to return to it.", elem_id="history",
                    visible=False,
                )  # fmt: skip
            with gr.Column(scale=2, elem_id="palette", min_width=300):
                styles = gr.CheckboxGroup(
                    [(title_of(n), n) for n in builtin_names()],
                    label="Style",
                    info="Choose one, or several to blend.",
                    elem_id="styles",
                )
                with gr.Accordion("Your own style", open=False, elem_id="own"):
                    own = gr.File(
                        file_count="multiple", file_types=STYLE_FILES, label="Pictures or style files", height=120
                    )
                weights = [
                    gr.Slider(0, 1, value=1, step=0.05, visible="hidden", elem_classes=["weight"])
                    for _ in range(MOST_STYLES)
                ]
                made: dict[str, Any] = {
                    "quality": gr.Radio(
                        [(WORDS[q], q) for q in QUALITIES], value="good", label="Quality", elem_id="quality"
                    )
                }
                with gr.Group(elem_id="main"):
                    for name in IN_VIEW:
                        changes = {"label": LABELS[name]} if name in LABELS else {}
                        made[name] = widget(controls(StylizeOptions)[name], **changes)
                with gr.Accordion("Regions: paint parts in other styles", open=False, elem_id="regions") as folded:
                    gr.HTML(BRUSH)
                    regions = [
                        gr.Dropdown(
                            style_choices([]), value=None, label=f"Style of region {i}", elem_classes=[f"region-{i}"]
                        )
                        for i in range(1, REGIONS + 1)
                    ]
                for group in dict.fromkeys(c.group for c in session.controls.values()):
                    with gr.Accordion(GROUPS.get(group, "File"), open=False, elem_classes=["folded"]):
                        for name, control in session.controls.items():
                            if control.group == group and name not in made:
                                made[name] = widget(control)
        lacking = missing()
        need = f'<p class="hint">This needs {", ".join(lacking)}: pip install "impasto[video]"</p>'
        gr.HTML(need if lacking else FILM, elem_id="film")
        gr.HTML(need if lacking else LIVE, elem_id="live")
        values = [made[name] for name in session.controls]

        for sample, path in zip(tries, samples(), strict=True):
            sample.click(partial(str, path), None, photo, **quick)
        page.load(None, None, None, js="() => impasto.start()", api_visibility="private")
        photo.change(None, None, None, js="() => impasto.photo()", api_visibility="private")
        photo.change(session.preview, photo, preview, **quick).success(
            None, preview, None, js="(preview) => impasto.photo(preview)", api_visibility="private"
        )
        folded.expand(None, preview, None, js="(preview) => impasto.photo(preview)", api_visibility="private")
        gr.on(
            [page.load, *(c.change for c in (photo, *(made[n] for n in TIMED)))],
            session.estimates,
            [photo, *values],
            made["quality"],
            trigger_mode="always_last",
            **quick,
        )
        gr.on(
            [styles.change, own.change],
            session.weigh,
            [styles, own],
            [*weights, *regions],
            trigger_mode="always_last",
            **quick,
        )
        paint.click(
            session.paint,
            [masks, photo, styles, own, ids, *weights, *regions, *values],
            [current, command, ids, history],
            js="(masks, ...rest) => [impasto.masks(), ...rest]",
            **private,
        ).then(None, None, None, js="() => impasto.thumbnails()", api_visibility="private")
        cancel.click(None, None, None, js="() => impasto.cancel()", api_visibility="private")
        current.change(None, current, None, js="(id) => impasto.follow(id)", api_visibility="private")
        history.input(
            session.load, history, [photo, styles, own, *weights, *regions, *values, current, command], **quick
        )
        page.unload(session.leave)
    return page
