"""The one inline script of the page, which a security policy allows by its hash."""

from __future__ import annotations

import base64
import hashlib
import re

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.S)


def inline_hashes(html: str) -> str:
    """Return the hashes of the inline scripts and styles of a page, as a policy names them.

    >>> inline_hashes("<script src='a.js'></script><script>1</script>")
    "'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='"
    """
    texts = (match[2] for match in _INLINE.finditer(html))
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts)
