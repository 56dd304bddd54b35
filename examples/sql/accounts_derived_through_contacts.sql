-- Which deals got their account through a contact, and through whom?
-- One row per deal whose customer is a contact that belongs to an account: Dynamics itself has no account on such a
-- deal, it was derived. `contact_was_merged` and `account_was_merged` say that a merge was followed on the way. An
-- account without a name was not extracted. To see every step of one deal: `opportunity_explanations`.
with
derived as (select * from opportunities where account_rule = 'account_of_customer_contact')

select
    derived.name as opportunity,
    derived.state,
    contacts.full_name as customer,
    derived.account_name as account,
    derived.amount_base,
    derived.merged_customer_id is not null as contact_was_merged,
    contacts.merged_account_id is not null as account_was_merged
from derived
inner join contacts on contacts.contact_id = derived.customer_id
order by contact_was_merged desc, account_was_merged desc, derived.amount_base desc nulls last, derived.opportunity_id
