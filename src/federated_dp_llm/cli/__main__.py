"""`python -m federated_dp_llm.cli`: the same as `federated-dp-llm`."""

from federated_dp_llm.cli.entry import main

if __name__ == "__main__":
    main()
