"""Whole calls with one fault, as golden recordings and the runtime baseline hold them too."""

from __future__ import annotations

from rspp.tooling.fault_call import (
    ANSWER,
    ASK,
    PIPELINE,
    QUESTION,
    SPEAKING,
    FaultCall,
    TakeoverCall,
    fault_after,
    refused_before_open,
)
from rspp.tooling.faults import (
    FaultCaller,
    FaultRecognition,
    FaultResponder,
    FaultStore,
    FaultSynthesizer,
    FaultTransport,
    Record,
    Step,
)

__all__ = [
    "ANSWER",
    "ASK",
    "PIPELINE",
    "QUESTION",
    "SPEAKING",
    "FaultCall",
    "FaultCaller",
    "FaultRecognition",
    "FaultResponder",
    "FaultStore",
    "FaultSynthesizer",
    "FaultTransport",
    "Record",
    "Step",
    "TakeoverCall",
    "fault_after",
    "refused_before_open",
]
