"""Published data sets and the generated streets: a listing and a label table each."""
