"""The README.md of a model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spq.model.model import Model


def model_card(model: Model) -> str:
    """Return the README.md of a model folder."""
    q, lengths = model.config.quantizer, [f"{bits}-bit" for bits in model.config.quantizer.lengths]
    lines = [f"- {key}: {value}" for key, value in model.facts.items() if key not in ("codes", "parts", "environment")]
    made = [f"{name} {value}" for name, value in model.facts.get("environment", {}).items() if value != ""]
    lines += [f"- environment: {', '.join(made)}"] if made else []
    lines += [f"- own {name}: `{part['class']}`" for name, part in model.facts.get("parts", {}).items()]
    lines += [
        f"- {codes['bits']} bits keep {codes['kept']:.0%} of the 10 nearest pictures; {codes['copy_at_10']:.0%} of altered "
        f"copies find their original among 10 of {codes['pictures']:,}"
        for codes in model.facts.get("codes", [])
    ]
    facts = "\n".join(lines)
    return f"""---
library_name: spq-retrieval
tags: [image-retrieval, product-quantization, self-supervised]
---
# An spq model

Finds similar pictures by {" or ".join(lengths)} codes (up to {q.bytes} bytes a picture), learned without labels: recipe
`{model.config.name}`, {q.described}, input
{model.config.input.size}x{model.config.input.size}, distance `{q.distance}`, hash `{model.hash}`.

{facts or "- training: not recorded"}

```python
from spq import SPQ

codes = SPQ.load("this folder").encode(["a.jpg", "b.jpg"])  # (2, {q.num_codebooks}) uint8
```

Method: Jang and Cho, Self-supervised Product Quantization for Deep Unsupervised Image Retrieval, ICCV 2021.
"""
