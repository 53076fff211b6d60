"""A language model as the parser: asked for JSON, at temperature 0, and believed only as far as its answer is valid.

Where it is not, the rules answer. A sentence is asked once; equal sentences have equal answers.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.teacher.interfaces import Cardinality, ModelInfo, Parsed
from models.teacher.loading import load_pretrained, load_processor
from models.teacher.parser import RuleParser
from util.errors import InputError

QWEN = "Qwen/Qwen2.5-7B-Instruct"
TOKENS = 200  # of an answer
KINDS = ("colour", "size", "order", "side")

QUESTION = """A sentence points at something in a video. Answer with one JSON object and nothing else:
{{"noun": the general noun of what is pointed at, in the singular, one or two words,
 "hypernym": a broader noun that a detector surely knows ("person" for any human, "animal", "vehicle"), or null,
 "cardinality": "one", "k" for a stated number, "many" for all or a plural, or "unknown",
 "k": that number or null, "negated": whether it says what the thing is not, "motion": whether it tells of a movement,
 "attributes": lists of words under any of "colour", "size", "order", "side"}}
Sentence: {text}"""


class LanguageModelParser:
    """An `ExpressionParser`; `source` is a hub id or a folder. `rejected` counts answers that were not valid."""

    def __init__(self, source: str | Path = QWEN, *, device: str | torch.device = "cpu") -> None:
        self.model, folder, self._info = load_pretrained(
            source, AutoModelForCausalLM, backend="language_model", device=device
        )
        self.tokenizer = load_processor(folder, AutoTokenizer)
        self.rejected = 0
        self._rules = RuleParser()
        self._known: dict[str, Parsed] = {}

    @property
    def info(self) -> ModelInfo:
        return self._info

    def parse(self, text: str) -> Parsed:
        """What the sentence asks for."""
        if text not in self._known:
            self._known[text] = self._parse(text)
        return self._known[text]

    def _parse(self, text: str) -> Parsed:
        try:
            return read_answer(text, self.ask(QUESTION.format(text=json.dumps(text, ensure_ascii=False))))
        except InputError:
            self.rejected += 1
            return self._rules.parse(text)

    @torch.inference_mode()
    def ask(self, question: str) -> str:
        """The model's most probable answer."""
        prompt = question
        if self.tokenizer.chat_template:
            turns = [{"role": "user", "content": question}]
            prompt = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs = self.tokenizer(prompt, return_tensors="pt").to(self.model.device)
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        end = self.tokenizer.eos_token_id
        written = self.model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False, pad_token_id=end)
        return str(self.tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def read_answer(text: str, answer: str) -> Parsed:
    """What an answer says of a sentence. Raises InputError where it is not the JSON that was asked for."""
    found = re.search(r"\{.*\}", answer, re.DOTALL)
    try:
        content = json.loads(found[0]) if found else None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"the answer about {text[:40]!r} holds no JSON object")
    noun, hypernym = _word(content.get("noun")), _word(content.get("hypernym"))
    if noun is None:
        raise InputError(f"the answer about {text[:40]!r} names no noun")
    cardinality, k = content.get("cardinality", "unknown"), content.get("k")
    whole = isinstance(k, int) and not isinstance(k, bool) and 1 <= k <= 50
    if cardinality not in get_args(Cardinality) or (cardinality == "k" and not whole):
        raise InputError(f"the answer about {text[:40]!r} has the cardinality {cardinality!r}, {k!r}")
    flags = {name: content.get(name, False) for name in ("negated", "motion")}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise InputError(f"the answer about {text[:40]!r} has a flag that is neither true nor false")
    parsed = Parsed(text, noun, None if hypernym == noun else hypernym, cardinality, k if cardinality == "k" else None)
    return replace(parsed, attributes=_attributes(content.get("attributes")), **flags)


def _word(value: Any) -> str | None:
    """One or two words in lower case; None for anything else."""
    if not isinstance(value, str) or not re.fullmatch(r"[^\W_]+(?:[ '’-][^\W_]+){0,2}", value.strip()):
        return None
    return value.strip().lower()


def _attributes(content: Any) -> dict[str, tuple[str, ...]]:
    """The known kinds; what is no list of words is left out."""
    found = {}
    for kind in KINDS if isinstance(content, dict) else ():
        listed = content.get(kind)
        values = tuple(w for w in map(_word, listed if isinstance(listed, list) else [listed]) if w)
        if values:
            found[kind] = values
    return found
