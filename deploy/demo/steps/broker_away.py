from deploy.demo.account import Account
from deploy.demo.stage import Stage


def show(stage: Stage, account: Account) -> None:
    pass
