"""The kind `ctc`: encoders that write characters by CTC (wav2vec 2.0, XLS-R, MMS, HuBERT, WavLM, data2vec,
w2v-BERT).
"""

from metavox.recognisers.ctc.folder import load
from metavox.recognisers.ctc.recogniser import CtcRecogniser

__all__ = ["CtcRecogniser", "load"]
