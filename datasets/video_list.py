"""The sequence that every source of videos is: nothing is read before a video is indexed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import overload

from util.types import ReferringVideo


class VideoList(Sequence[ReferringVideo]):
    """Videos that are made when they are indexed; a child says how many there are, and makes number n."""

    @abstractmethod
    def video(self, number: int) -> ReferringVideo:
        """Video `number`, 0 <= number < len(self)."""

    @overload
    def __getitem__(self, index: int) -> ReferringVideo: ...

    @overload
    def __getitem__(self, index: slice) -> list[ReferringVideo]: ...

    def __getitem__(self, index: int | slice) -> ReferringVideo | list[ReferringVideo]:
        numbers = range(len(self))[index]
        return self.video(numbers) if isinstance(numbers, int) else [self.video(number) for number in numbers]
