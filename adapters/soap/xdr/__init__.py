"""IHE document sharing: Document Recipient and Document Source (ITI-41, XDR), Document Consumer (ITI-18, ITI-43)."""
