"""The README.md of a model folder."""

from __future__ import annotations

from typing import Any

from spq.config import Recipe


def model_card(config: Recipe, training: dict[str, Any], hash_: str) -> str:
    """Return the README.md of a model folder.

    Args:
        training: facts of it. hash_: of the model.
    """
    q, lengths = config.quantizer, [f"{bits}-bit" for bits in config.quantizer.lengths]
    lines = [f"- {key}: {value}" for key, value in training.items() if key not in ("codes", "parts", "environment")]
    made = [f"{name} {value}" for name, value in training.get("environment", {}).items() if value != ""]
    lines += [f"- environment: {', '.join(made)}"] if made else []
    lines += [f"- own {name}: `{part['class']}`" for name, part in training.get("parts", {}).items()]
    lines += [
        f"- {codes['bits']} bits keep {codes['kept']:.0%} of the 10 nearest pictures; {codes['copy_at_10']:.0%} of altered "
        f"copies find their original among 10 of {codes['pictures']:,}"
        for codes in training.get("codes", [])
    ]
    facts = "\n".join(lines)
    return f"""---
library_name: spq-retrieval
tags: [image-retrieval, product-quantization, self-supervised]
---
# An spq model

Finds similar pictures by {" or ".join(lengths)} codes (up to {q.bytes} bytes a picture), learned without labels: recipe
`{config.name}`, {q.described}, input
{config.input.size}x{config.input.size}, distance `{q.distance}`, hash `{hash_}`.

{facts or "- training: not recorded"}

```python
from spq import SPQ

codes = SPQ.load("this folder").encode(["a.jpg", "b.jpg"])  # (2, {q.num_codebooks}) uint8
```

Method: Jang and Cho, Self-supervised Product Quantization for Deep Unsupervised Image Retrieval, ICCV 2021.
"""
