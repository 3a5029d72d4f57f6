"""A chat model that says what it was told to."""

from sotopia_gym.llm.chat import ChatModel, Completion


class Canned(ChatModel):
    """Answers from a list, the last one for ever, and remembers what it was asked."""

    name = "canned"

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def complete(self, messages, **kwargs):
        self.asked.append((messages, kwargs))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Completion(answer, 100, 20, model="canned-1", fingerprint="fp", cost=0.01)
