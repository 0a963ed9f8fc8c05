"""Who hears whom, and who must not, by cross-correlation."""

import time

import numpy

from lib.rtp import best_match
from lib.scenario import wait_for
from telephones import Words

ENOUGH, IMPOSTOR = 0.9, 0.3
# The tone at comings and goings, in Hz and seconds.
BEEP = 620, 0.25


class Ears:
    def __init__(self, scenario):
        self.scenario = scenario
        self.worst, self.best_impostor, self.comparisons, self.again = 1.0, 0.0, 0, 0

    def listen(self, listener, samples, since, seconds):
        """The best correlation with it within this time, or a moment after it is enough: the end may be on its way."""
        best, until = -1.0, time.monotonic() + seconds
        while best < ENOUGH and time.monotonic() < until:
            best = max(best, listener.likeness(samples, since))
            time.sleep(0.08)
        return max(best, listener.likeness(samples, since))

    def hears(self, listener, samples, since, what, seconds=4):
        """It is heard since then, or soon."""
        self.is_heard(listener, self.listen(listener, samples, since, seconds), what)

    def is_heard(self, listener, found, what):
        self.comparisons += 1
        self.scenario.check(found >= ENOUGH, f"{listener.name} does not hear {what}: correlation {found:.3f}")
        self.worst = min(self.worst, found)

    def lacks(self, listener, samples, since, what):
        found = listener.likeness(samples, since)
        self.comparisons += 1
        self.scenario.check(found < IMPOSTOR, f"{listener.name} hears {what}: correlation {found:.3f}")
        self.best_impostor = max(self.best_impostor, found)

    def speaks(self, speaker, to=(), past=()):
        """Says something that is heard by those, and neither by these nor by itself; nobody hears what nobody said. Gives the words.

        Where somebody did not hear it well, as where the machine was busy with other things, it is said once more."""
        words = speaker.say()
        found = {listener: self.listen(listener, words.samples, words.began, 1) for listener in to}
        if any(likeness < ENOUGH for likeness in found.values()):
            self.again += 1
            words = speaker.say()
            found = {listener: self.listen(listener, words.samples, words.began, 1) for listener in to}
        words.is_heard = bool(to)
        for listener, likeness in found.items():
            self.is_heard(listener, likeness, speaker.name)
            self.lacks(listener, Words().samples, words.began, "what nobody said")
        time.sleep(0.05 if to else 0.4)
        for listener in (*past, speaker):
            self.lacks(listener, words.samples, words.began, speaker.name)
        return words

    def all_speak(self, *speakers):
        """At once: each hears the sum of the others, all of it, and nothing else. Said once more as `speaks` does."""
        heard = self.all_at_once(speakers)
        if any(likeness < ENOUGH for _, _, _, _, likeness in heard):
            self.again += 1
            heard = self.all_at_once(speakers)
        for listener, own, others, audio, likeness in heard:
            self.scenario.check(likeness >= ENOUGH, f"{listener.name} hears all the others: correlation {likeness:.3f}")
            self.worst = min(self.worst, likeness)
            for voice in others:
                alone = best_match(voice, audio)[0]
                self.scenario.check(0.5 < alone < ENOUGH, f"{listener.name} hears one of two: correlation {alone:.3f}")
            itself = best_match(own, audio)[0]
            self.scenario.check(itself < IMPOSTOR, f"{listener.name} hears itself among all: correlation {itself:.3f}")
            self.best_impostor = max(self.best_impostor, itself)

    def all_at_once(self, speakers):
        """They say something; of each: its own voice, those of the others, what it heard, and how far the others explain that."""
        said = {speaker: speaker.say(0.8, wait=False) for speaker in speakers}
        time.sleep(1.2)
        heard = []
        for listener in speakers:
            own, others = said[listener].samples, [words.samples for speaker, words in said.items() if speaker is not listener]
            audio = listener.heard(time.monotonic() - min(words.began for words in said.values()) + 0.2)
            heard.append((listener, own, others, audio, self.explained(audio, others)))
        return heard

    @staticmethod
    def explained(audio, voices):
        """The correlation of what was heard with the best sum of these voices, each where it is, in the time that they share."""
        places = [best_match(voice, audio)[1] for voice in voices]
        first, last = max(places), min(place + len(voice) for place, voice in zip(places, voices))
        shared = numpy.array([voice[first - place : last - place] for place, voice in zip(places, voices)], float).T
        heard = audio[first:last]
        weights = numpy.linalg.lstsq(shared, heard, rcond=None)[0]
        return float(numpy.corrcoef(shared @ weights, heard)[0, 1]) if len(heard) > 2000 else 0.0

    def beep(self, since, *listeners, seconds=3):
        hz, length = BEEP
        for listener in listeners:
            is_whole = lambda: abs(listener.tone(hz, since) - length) < 0.06
            wait_for(is_whole, seconds, f"the beep at {listener.name}: {listener.tone(hz, since):.2f} s", every=0.05)
            self.scenario.check(True, "the beep")

    def no_beep(self, since, *listeners):
        for listener in listeners:
            heard = listener.tone(BEEP[0], since)
            self.scenario.check(heard < 0.05, f"{listener.name} hears {heard:.2f} s of a beep")

    def silence(self, listener, seconds=3):
        """Nothing more is heard, from now on or soon."""
        wait_for(lambda: self.loudness(listener) < 20, seconds, f"silence at {listener.name}: {self.loudness(listener):.0f}", every=0.05)
        self.scenario.check(True, "silence")

    @staticmethod
    def loudness(listener):
        audio = listener.heard(0.3)
        return float(numpy.sqrt((audio**2).mean())) if len(audio) else 0.0
