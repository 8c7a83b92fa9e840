"""Fully convolutional matching (Bertinetto et al. 2016).

One question is slid over the other, by its token states.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dupq.data.text import check_text
from dupq.models.pair_heads.pairs import PairHead

MAX_WINDOW = 512
"""Maximum number of tokens of a window of a long text."""


@dataclass(frozen=True, slots=True)
class ResponseMap:
    """Responses of a long text to a shorter one, at each place of the shorter one.

    Attributes:
        template: 1 if the first text is the shorter one, which was slid over the other, else 2.
        tokens: Numbers of tokens of the template and of the long text.
        responses: float64 array (places,). The score of the pair grows with the largest within the token limit; a place
            in the overlap of two windows occurs twice.
        spans: int64 array (places, 2), start and end in the long text, in characters, of the tokens at each place.
    """

    template: int
    tokens: tuple[int, int]
    responses: NDArray[np.float64]
    spans: NDArray[np.int64]

    @property
    def best(self) -> tuple[int, int]:
        """The span with the largest response; the first one of several."""
        start, end = self.spans[int(self.responses.argmax())].tolist()
        return start, end


class TemplateMatching(PairHead):
    """Fully convolutional matching: a template slid over a search text.

    r_t = Σ_k a_k φ(z)_k · φ(x)_{k+t}; score = e^s · max_t r_t + b. The shorter question is the template z, the other
    the search text x; for equal lengths the score is the mean of both assignments. φ is two convolutions over three
    tokens and a normalisation, (n, tokens, dimensions) to unit vectors (n, tokens, hidden); a = softmax(w · z) are the
    learned weights of the template's tokens. At least half of the template lies on the search text.

    Source: Bertinetto et al. 2016 (SiamFC). Adapted for text: their template has one size and their sum one weight, but
    questions differ in length, and few of their words matter. Prefer it for a short question against a long post:
    `response_map` shows where in the post it is asked.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Channels of the convolutions.
    """

    def __init__(self, dimensions: int, hidden: int = 64) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden)
        self.dimensions, self.hidden = dimensions, hidden
        self.first = nn.Conv1d(dimensions, hidden, 3, padding=1)
        self.second = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.matter = nn.Linear(dimensions, 1, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.offset = nn.Parameter(torch.tensor(-4.0))

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        forth = self.response_map(left, right, left_mask, right_mask).amax(1)
        back = self.response_map(right, left, right_mask, left_mask).amax(1)
        # Where the lengths differ, the longer question laid on the shorter one does not count.
        longer = left_mask.sum(1) - right_mask.sum(1)
        best = torch.where(longer < 0, forth, torch.where(longer > 0, back, (forth + back) / 2))
        return self.log_scale.exp() * best + self.offset

    def response_map(self, template: Tensor, search: Tensor, template_mask: Tensor, search_mask: Tensor) -> Tensor:
        """Return the responses r_t, (n, m + s - 1).

        Templates have m tokens and search texts s, with padding. Column c is the offset t = c - (m - 1), the token of
        the search text on which the template's first one lies. An offset at which more than half of the template lies
        beside the search text has -inf.
        """
        weights = self.matter(template).squeeze(2).masked_fill(~template_mask, -torch.inf).softmax(1)
        kernels = self._embed(template, template_mask) * weights.unsqueeze(1)
        n, channels, m = kernels.shape
        # Each pair is a group of its own, so that its template is correlated with its own search text alone.
        texts = self._embed(search, search_mask).reshape(1, n * channels, -1)
        responses = functional.conv1d(texts, kernels, padding=m - 1, groups=n).squeeze(0)
        offsets = torch.arange(responses.shape[1], device=responses.device) - (m - 1)
        length, room = template_mask.sum(1, keepdim=True), search_mask.sum(1, keepdim=True)
        on = (offsets >= -(length // 2)) & (offsets <= room - (length + 1) // 2)
        return responses.masked_fill(~on, -torch.inf)

    def _embed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return φ of each token, (n, hidden, tokens): unit vectors, and 0 for padding."""
        place = mask.unsqueeze(1).float()
        hidden = self.first(tokens.transpose(1, 2) * place).relu() * place
        return functional.normalize(self.second(hidden), dim=1) * place


def response_map(model: Any, question1: str, question2: str) -> ResponseMap | None:
    """Slide the shorter of two texts over the other.

    The network is one with `TemplateMatching`. A text beyond its token limit is read in windows that overlap by half,
    to its end; the shorter text is truncated to the limit.

    Args:
        model: `CrossEncoder` of a `PairEncoder` and a pair head.
        question1, question2: The texts; where both have as many tokens, the one that sorts first is slid.

    Returns:
        The map; None for a network with another head, a tokenizer that gives no positions, or a text without tokens.

    Raises:
        InputError: A text is missing, blank or broken.
    """
    for number, text in enumerate((question1, question2), 1):
        check_text(text, f"question{number}")
    if len(model) != 2 or not isinstance(model[1], TemplateMatching) or not model.tokenizer.is_fast:
        return None
    head, limit = model[1], min(int(model.max_seq_length or MAX_WINDOW), MAX_WINDOW)
    # Truncation and stride are states of a tokenizer, which other threads may be using.
    tokenizer = copy.deepcopy(model.tokenizer)
    lengths = [
        len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) for text in (question1, question2)
    ]
    if not min(lengths):
        return None
    first = (lengths[0], question1) <= (lengths[1], question2)
    short, long = (question1, question2) if first else (question2, question1)
    options = {"truncation": True, "max_length": limit, "padding": True, "return_tensors": "pt"}
    options |= {"return_offsets_mapping": True}
    slid = tokenizer([short], **options)
    windows = tokenizer([long], stride=limit // 2, return_overflowing_tokens=True, **options)
    model.eval()
    with torch.inference_mode():
        (template, template_mask), (search, search_mask) = (_states(model, part) for part in (slid, windows))
        n = len(search)
        found = head.response_map(template.expand(n, -1, -1), search, template_mask.expand(n, -1), search_mask)
    responses, spans = _in_order(
        found.cpu().numpy(), slid["offset_mapping"][0].numpy(), windows["offset_mapping"].numpy()
    )
    return ResponseMap(1 if first else 2, (min(lengths), max(lengths)), responses, spans)


def _states(model: Any, features: Any) -> tuple[Tensor, Tensor]:
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {name: features[name].to(model.device) for name in names if name in features}
    output = model[0](inputs)
    return output["token_embeddings"].float(), inputs["attention_mask"].bool()


def _in_order(
    found: NDArray[np.float32], template: NDArray[np.int64], positions: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the responses of all windows and their spans, in text order.

    Args:
        found: Map of each window (windows, offsets).
        template: Start and end of each token of the template, (m, 2); 0 and 0 for special tokens.
        positions: The same for each window, (windows, s, 2), with padding as special tokens are.
    """
    responses, spans = [], []
    inner = np.flatnonzero(template[:, 1] > template[:, 0])
    for window, column in zip(*np.nonzero(np.isfinite(found)), strict=True):
        offset = column - (len(template) - 1)
        # Special tokens of the template lie on words of the text that are not asked.
        covered = positions[window, max(0, offset + inner[0]) : max(0, offset + inner[-1] + 1)]
        covered = covered[covered[:, 1] > covered[:, 0]]
        if len(covered):
            responses.append(float(found[window, column]))
            spans.append((int(covered[0, 0]), int(covered[-1, 1])))
    order = np.lexsort(np.array(spans).T[::-1])
    return np.array(responses)[order], np.array(spans, dtype=np.int64)[order]
