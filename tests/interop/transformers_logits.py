"""Logits of a Hugging Face folder by the transformers library: float32 [tokens, vocabulary] to a file.

    python3 transformers_logits.py FOLDER OUTPUT TOKEN [TOKEN ...]
"""

import sys

import torch
from transformers import GPT2LMHeadModel

model = GPT2LMHeadModel.from_pretrained(sys.argv[1]).eval()
with torch.no_grad():
    logits = model(torch.tensor([[int(token) for token in sys.argv[3:]]])).logits[0]
logits.float().numpy().tofile(sys.argv[2])
