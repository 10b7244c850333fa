"""Figures shown one after the other, with a slider and a button: plain HTML that works offline and without a mouse."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

TEMPLATE = """<div class="frames" id="{name}">
{pictures}
<div style="display: flex; gap: 0.8em; align-items: center; max-width: 40em">
<button type="button" style="min-width: 4.5em">Play</button>
<input type="range" min="0" max="{last}" value="0" style="flex: 1" aria-label="{label}">
<output>{label} 0</output>
</div>
<script>
(() => {{
  const box = document.getElementById("{name}");
  const [button, slider, output] = ["button", "input", "output"].map((tag) => box.querySelector(tag));
  let timer = null;
  const show = () => {{
    box.querySelectorAll("img").forEach((picture, k) => {{ picture.hidden = k != slider.value; }});
    output.textContent = "{label} " + slider.value;
  }};
  const stop = () => {{ clearInterval(timer); timer = null; button.textContent = "Play"; }};
  const play = () => {{
    if (slider.value === slider.max) slider.value = 0;
    button.textContent = "Pause";
    timer = setInterval(() => {{ slider.stepUp(); show(); if (slider.value === slider.max) stop(); }}, {pause});
    show();
  }};
  slider.oninput = () => {{ stop(); show(); }};
  button.onclick = () => (timer ? stop() : play());
}})();
</script>
</div>"""


class Player:
    """An animation as the value of a notebook's cell.

    Args:
        name: an id that no other element of the page has.
        figures: matplotlib figures of one size.
        alt: what is seen, one text a figure.
        label: what the slider counts, for example "iteration"; the first figure is number 0.
        pause: milliseconds from one figure to the next while playing. It plays when asked to and then stops by itself.
    """

    def __init__(self, name: str, figures: Sequence[Any], alt: Sequence[str], label: str, pause: int = 500):
        pictures = []
        for number, (figure, text) in enumerate(zip(figures, alt, strict=True)):
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            code = base64.b64encode(buffer.getvalue()).decode()
            hidden = " hidden" if number else ""
            pictures.append(f'<img src="data:image/png;base64,{code}" alt="{escape(text)}"{hidden}>')
        self.html = TEMPLATE.format(
            name=name, pictures="\n".join(pictures), last=len(pictures) - 1, label=escape(label), pause=pause
        )

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return "an animation; open the notebook or the book to see it"
