"""Write a static web page that paints in the browser.

`graphs` says what runs there, `styles` packs the built-in styles, `runtime` finds onnxruntime-web, and `site` writes the
folder and compares its paintings with this package's own. `static/` holds the page.
"""
