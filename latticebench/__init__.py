"""What is judged: lattices, quantizers, data, tokenizers, generators."""
