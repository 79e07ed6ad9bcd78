"""Write a static web page that paints in the browser.

`graphs` says what runs there, `weights` and `styles` pack the numbers, `runtime` finds onnxruntime-web, `check`
compares the paintings with this package's own, and `site` writes the folder. `static/` holds the page.
"""
